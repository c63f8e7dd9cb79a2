"""Time zones of a hundred cities, by their names in the IANA database."""

_CITIES = {
    "Africa": "Abidjan Accra Addis_Ababa Algiers Cairo Casablanca Dar_es_Salaam Johannesburg Kampala Khartoum "
    "Kinshasa Lagos Luanda Lusaka Maputo Nairobi Tripoli Tunis Windhoek",
    "America": "Anchorage Asuncion Bogota Caracas Chicago Denver Guatemala Guayaquil Halifax Havana Jamaica La_Paz "
    "Lima Los_Angeles Managua Mexico_City Montevideo New_York Panama Phoenix Puerto_Rico Santiago Sao_Paulo "
    "St_Johns Toronto Vancouver Winnipeg",
    "Asia": "Almaty Amman Baghdad Baku Bangkok Beirut Colombo Dhaka Dubai Hong_Kong Jakarta Jerusalem Kabul Karachi "
    "Kathmandu Kolkata Kuala_Lumpur Kuwait Manila Qatar Riyadh Seoul Shanghai Singapore Taipei Tashkent Tbilisi Tehran "
    "Tokyo Ulaanbaatar Vladivostok Yangon Yerevan",
    "Atlantic": "Azores Bermuda Canary Reykjavik",
    "Australia": "Adelaide Brisbane Darwin Hobart Melbourne Perth Sydney",
    "Europe": "Amsterdam Athens Berlin Brussels Bucharest Budapest Dublin Helsinki Istanbul Kyiv Lisbon London Madrid "
    "Moscow Oslo Paris Prague Rome Sofia Stockholm Vienna Warsaw Zurich",
    "Indian": "Maldives Mauritius",
    "Pacific": "Apia Auckland Fiji Guam Honolulu Noumea Port_Moresby Tongatapu",
}

ZONES = [f"{area}/{city}" for area, cities in _CITIES.items() for city in cities.split()]
